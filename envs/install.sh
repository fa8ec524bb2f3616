#!/bin/sh
# Installs the project and what it needs into the environment of a Python, from lock files alone:
#     envs/install.sh cpu            with the CPU build of torch (x86_64, Python 3.11)
#     envs/install.sh gpu            with the CUDA build, Liger's kernels and vLLM
#     envs/install.sh cpu s3 slurm   with extras
# The environment is that of PYTHON, or else of the first python on the PATH.
set -eu
cd "$(dirname "$0")/.."
device=${1:-}
case $device in
    cpu)
        names="build torch-cpu run"
        # No index that pip asks by itself has CPU builds. Hashes say what comes from this one.
        PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL-https://download.pytorch.org/whl/cpu}
        export PIP_EXTRA_INDEX_URL ;;
    gpu) names="build torch run gpu vllm" ;;
    *)
        echo "envs/install.sh: '$device' is no device; say cpu or gpu, then extras such as s3" >&2
        exit 2 ;;
esac
shift
for name in "$@"; do
    if [ ! -e "envs/locks/$name.txt" ]; then
        echo "envs/install.sh: there is no envs/locks/$name.txt" >&2
        exit 2
    fi
done
pip() {
    "${PYTHON:-python}" -m pip install --disable-pip-version-check --no-cache-dir \
        --no-deps --no-build-isolation "$@"
}
for name in $names "$@"; do
    pip --require-hashes --requirement "envs/locks/$name.txt"
done
pip --editable .
# Who runs the project may not write into its folder.
"${PYTHON:-python}" -m compileall -q mpd
