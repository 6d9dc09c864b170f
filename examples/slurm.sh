#!/bin/bash
# Pretrain on the machines of a Slurm cluster, and go on where the time limit ended it: two minutes
# before that every process gets SIGUSR1, writes a checkpoint and stops; the job puts itself back into
# the queue, and the same command continues from there.
#
#   sbatch examples/slurm.sh pretrain --backbone resnet50 --dataset /data/crops \
#     --output-dir runs/resnet50 --batch-size 2048 --mixed-precision bf16
#
#SBATCH --job-name=patchit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

PROCESSES="${SLURM_GPUS_ON_NODE:-1}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(( ${SLURM_CPUS_PER_TASK:-$PROCESSES} / PROCESSES ))}"

# The machine where the processes meet, and a port that other jobs do not take.
HEAD="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
PORT=$(( 20000 + SLURM_JOB_ID % 20000 ))
SAID="$(mktemp)"

# One torchrun for each machine. It hands over only the signals that it is told to, and then waits for
# the checkpoint, by default half a minute.
srun torchrun \
  --nnodes "$SLURM_NNODES" --nproc-per-node "$PROCESSES" \
  --rdzv-backend c10d --rdzv-endpoint "$HEAD:$PORT" --rdzv-id "$SLURM_JOB_ID" \
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 110 \
  -m patchit_hf "$@" 2>&1 | tee "$SAID"
CODE="${PIPESTATUS[0]}"

if grep -q "stopped by SIGUSR1" "$SAID"; then  # and not by an error, which would come again
  scontrol requeue "$SLURM_JOB_ID"
fi
rm -f "$SAID"
exit "$CODE"
