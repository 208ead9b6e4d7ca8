#!/usr/bin/env bash
# TensorFlow and what this package needs, for a GPU machine that can fetch nothing and only takes files of limited size.
#
#   benchmarks/gpu_kit.sh make FOLDER      here: FOLDER/part_00, part_01, ... and FOLDER/kit.sha256
#   benchmarks/gpu_kit.sh join FOLDER KIT  there: joins and checks the parts, unpacks them into KIT, writes KIT/env
#   benchmarks/gpu_kit.sh try KIT WORK     there: lists the GPU, trains the smoke recipe, an epoch of MNIST, and resumes it
#
# make reads PYTHON_VERSION of the other machine (3.12), CARD, its GPU's compute capability (90), PART, the MiB of a part (58),
# and MNIST, a folder with the four original files, which travel along. It takes the versions that PYTHON (python) has.
# join reads LIBRARIES, the folders to look for CUDA 13 in (/opt /usr/local /usr/lib): TensorFlow 2.21 wants the names of
# CUDA 12, which its libraries get by links. nvcc is on the PATH there, for what XLA compiles.
set -euo pipefail

make_kit() {
    local folder=$1 python=${PYTHON:-python} version=${PYTHON_VERSION:-3.12}
    local kit=$folder/kit wheels=$folder/wheels versions=$folder/versions.txt platforms=()
    mkdir "$folder" "$kit" "$wheels"
    "$python" -m pip freeze --exclude-editable >"$versions"
    for platform in _2_28 _2_27 _2_26 _2_24 _2_17 2014 _2_12 2010 _2_5 1; do
        platforms+=(--platform "manylinux${platform}_x86_64")
    done
    # promise, which tensorflow-datasets needs, has no wheel.
    "$python" -m pip wheel --quiet --no-deps --wheel-dir "$wheels" promise
    "$python" -m pip install --quiet --target "$kit/site" --constraint "$versions" --find-links "$wheels" \
        --only-binary=:all: --no-compile --python-version "$version" --implementation cp "${platforms[@]}" \
        tensorflow tensorflow-probability tensorflow-datasets tf_keras numpy absl-py importlib_resources \
        nvidia-cuda-runtime-cu12
    rm -r "$kit/site/tensorflow/include" "$kit/site/clang"
    # Not the others: those that a wheel's maker has changed do not load after it.
    find "$kit/site/tensorflow" -name '*.so*' -size +1M -exec strip --strip-unneeded {} +
    find "$kit/site" -name 'libtensorflow_cc.so*' -exec "$python" "$(dirname "$0")/other_cards.py" "${CARD:-90}" {} +
    if [[ -n ${MNIST:-} ]]; then
        mkdir "$kit/mnist"
        cp "$MNIST"/*-ubyte* "$kit/mnist/"
    fi
    tar -C "$kit" -cf - . | xz -T0 -6 >"$folder/kit.tar.xz"
    (cd "$folder" && sha256sum kit.tar.xz >kit.sha256 && split -d -b "${PART:-58}M" kit.tar.xz part_)
    rm -r "$kit" "$wheels" "$versions" "$folder/kit.tar.xz"
    ls -l "$folder"
}

join_kit() {
    local folder=$1 kit=$2 places=${LIBRARIES:-/opt /usr/local /usr/lib} device_code
    mkdir -p "$kit/cuda12"
    kit=$(cd "$kit" && pwd)
    cat "$folder"/part_* >"$kit/kit.tar.xz"
    cp "$folder/kit.sha256" "$kit/"
    (cd "$kit" && sha256sum --check kit.sha256 && xz -T0 -dc kit.tar.xz | tar -xf - && rm kit.tar.xz)
    local paths=$kit/cuda12
    # Names of CUDA 12, names of CUDA 13.
    while read -r old new; do
        local found
        # shellcheck disable=SC2086  # several folders
        found=$(find $places -name "$new" -print -quit 2>/dev/null || true)
        if [[ -z $found ]]; then
            echo "no $new in $places: TensorFlow will not use the GPU" >&2
            continue
        fi
        ln -sf "$found" "$kit/cuda12/$old"
        paths+=:$(dirname "$found") # what the library itself needs lies beside it
    done <<'NAMES'
libcublas.so.12 libcublas.so.13
libcublasLt.so.12 libcublasLt.so.13
libcufft.so.11 libcufft.so.12
libcusolver.so.11 libcusolver.so.12
libcusparse.so.12 libcusparse.so.12
libcudnn.so.9 libcudnn.so.9
libnccl.so.2 libnccl.so.2
NAMES
    # shellcheck disable=SC2086
    device_code=$(find $places -path '*/nvvm/libdevice/libdevice.10.bc' -print -quit 2>/dev/null || true)
    if [[ -z $device_code ]]; then
        echo "no nvvm/libdevice in $places: XLA will not compile for the GPU" >&2
    fi
    ln -sf "$kit/site/nvidia/cuda_runtime/lib/libcudart.so.12" "$kit/cuda12/"
    cat >"$kit/env" <<ENV
export PYTHONPATH=$kit/site\${PYTHONPATH:+:\$PYTHONPATH}
export LD_LIBRARY_PATH=$paths\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
export XLA_FLAGS="--xla_gpu_cuda_data_dir=${device_code%/nvvm/*} \${XLA_FLAGS:-}"
ENV
    echo "joined; next: . $kit/env"
}

try_kit() {
    local kit=$1 work=$2 python=${PYTHON:-python3}
    # shellcheck source=/dev/null
    . "$kit/env"
    mkdir -p "$work"
    "$python" -c 'import tensorflow as tf; print(tf.__version__, tf.config.list_physical_devices("GPU"))'
    "$python" train.py --flagfile=configs/smoke.flags --workdir="$work/smoke"
    local mnist=("$python" train.py --flagfile=configs/paper/mnist.flags --workdir="$work/mnist" --jit_compile=auto
        --steps_per_execution=0 --sample_every_epochs=0 --manual_dir="$kit/mnist" --data_dir="$work/tfds")
    "${mnist[@]}" --epochs=2 &
    local run=$!
    # Stopped once the first epoch is kept, it goes on with the second.
    until compgen -G "$work/mnist/checkpoints/last/*.index" >/dev/null; do
        kill -0 "$run" || return 1
        sleep 0.5
    done
    kill -TERM "$run"
    wait "$run" || true
    "${mnist[@]}" --epochs=2
}

case ${1:-} in
make) make_kit "${2:?the folder for the parts}" ;;
join) join_kit "${2:?the folder with the parts}" "${3:?where to unpack}" ;;
try) try_kit "${2:?what join unpacked}" "${3:?a folder for the runs}" ;;
*)
    sed -n '2,/^set/p' "$0" | grep '^#' >&2
    exit 2
    ;;
esac
