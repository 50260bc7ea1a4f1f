#!/bin/bash
# Nodes of a job as a Slurm job array:
#
#     export INGEST_REDIS_URL=…            # Slurm hands the environment on; or a settings file in your home
#     sbatch --array=1-100 slurm.sh ID
#
#SBATCH --job-name=ingest
#SBATCH --array=1-10
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=12:00:00
#SBATCH --requeue
# Sixty seconds before its time is up a node is asked to stop: it finishes its batches, or gives them back.
#SBATCH --signal=B:TERM@60
set -euo pipefail

job=${1:?usage: sbatch slurm.sh ID}
# Nothing that a node keeps is needed after it; a shared home folder is no place for its logs and passing files.
INGEST_STATE_DIR=$(mktemp -d "${TMPDIR:-/tmp}/ingest-${SLURM_JOB_ID:?run me with sbatch}-XXXXXX")
export INGEST_STATE_DIR
# `exec`, so that Slurm's signal reaches the node and not this shell.
exec ingest join -j "$job" -p "${SLURM_CPUS_PER_TASK:-1}"
