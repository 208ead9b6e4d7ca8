"""Trains NICE and evaluates it: python train.py --flagfile=configs/digits.flags."""

from nice_tf.cli import command

command.run_app("train")
