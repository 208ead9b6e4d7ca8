"""Trains NICE and evaluates it: python train.py --flagfile=configs/digits.flags."""

from nice_tf import cli

cli.run_app("train")
