#!/bin/bash
# One run, or a sweep, on all nodes of a SLURM allocation. The arguments are those of `python -m evoprompt.run`:
#
#   sbatch --nodes=4 experiments/cluster/slurm.sh +culture=arab model=llama3-8b-instruct
#   sbatch --nodes=4 experiments/cluster/slurm.sh resume=outputs/arab/seed0-...           # after the time limit
#   COMMAND=check sbatch experiments/cluster/slurm.sh model=llama3-8b-instruct            # is everything there?
#
# The first node has the Ray head, the driver (this script starts it) and workers; the others have workers. The folder
# that you submit from, your home and the Python environment must be the same on all nodes.
#SBATCH --job-name=evoprompt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail
set -m # the driver is to hear Ctrl-C, which bash hides from background processes otherwise

# Your environment, the same on every node:
# source "$HOME/evoprompt/.venv/bin/activate"

# Only who has the token may join the cluster. It lies in ~/.ray, which the nodes share.
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]} others=$((${#nodes[@]} - 1))
port=$((20000 + SLURM_JOB_ID % 20000))
address=$head:$port
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it from sbatch
each=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --object-store-memory=268435456
    --disable-usage-stats --block)

# However this ends, Ray ends on all nodes.
trap 'jobs -p | xargs -r kill; wait' EXIT

await() { # await <seconds> <what> <command>: repeat the command until it succeeds
    local deadline=$((SECONDS + $1))
    until "${@:3}" > /dev/null 2>&1; do
        if ((SECONDS > deadline)); then
            echo "slurm.sh: $2 not there after $1 s" >&2
            exit 1
        fi
        sleep 2
    done
}

count_nodes='import ray, sys; ray.init(sys.argv[1]); sys.exit(sum(n["Alive"] for n in ray.nodes()) < int(sys.argv[2]))'

srun --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --port="$port" --include-dashboard=false "${each[@]}" &
await 120 "the Ray head on $head is" ray health-check --address "$address"
if ((others > 0)); then
    srun --nodes="$others" --ntasks="$others" --exclude="$head" ray start --address="$address" "${each[@]}" &
fi
await 300 "all ${#nodes[@]} nodes are" python -c "$count_nodes" "$address" "${#nodes[@]}"

# Two minutes before the time limit SLURM sends TERM; the driver then stops and says how to go on.
where=("executor.address=$address")
if [[ " $* " == *" hydra/launcher=evoprompt_ray "* ]]; then where=("hydra.launcher.address=$address"); fi
python -m "evoprompt.${COMMAND:-run}" "$@" "${where[@]}" &
driver=$!
trap 'kill -INT "$driver"' TERM
status=0
wait "$driver" || status=$?
if ((status > 128)); then status=0; wait "$driver" || status=$?; fi
exit "$status"
