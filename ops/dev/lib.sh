# Shared by the scripts of ops/dev; sourced, not run.
# Names, in order: where release and debug builds go, and how output is shown.
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$repo"
scratch=${POSTHOUSE_SCRATCH:-$repo/.build}
bin=$scratch/release
python=$repo/.venv/bin/python
[ -x "$python" ] || python=${POSTHOUSE_PYTHON:-$python}
if [ -x "$python" ]; then export POSTHOUSE_TEST_PYTHON=$python; fi
# As many tests at a time as cores: a time limit then counts a test's own time, not its wait for others.
SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=$(nproc)
export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
  bold='' dim='' green='' red='' plain=''
fi

# run_step NAME COMMAND...: runs it with its output in a log; prints one line, and the log's end when
# it fails. Step lines say how long it took.
run_step() {
  local name=$1 began=$SECONDS log
  shift
  log=$(mktemp)
  printf '%s... ' "$name"
  if "$@" >"$log" 2>&1; then
    printf '%sok%s (%ss)\n' "$green" "$plain" "$((SECONDS - began))"
    rm -f "$log"
    return 0
  fi
  printf '%sFAILED%s (%ss); whole log: %s\n' "$red" "$plain" "$((SECONDS - began))" "$log"
  tail -n "${STEP_LINES:-40}" "$log"
  return 1
}

# wait_with_progress PID LABEL: says every 15 s that the work goes on.
wait_with_progress() {
  local pid=$1 label=$2 began=$SECONDS
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    if [ $(((SECONDS - began) % 15)) = 14 ]; then
      printf '%s     %s: %ss so far%s\n' "$dim" "$label" "$((SECONDS - began))" "$plain"
    fi
  done
  wait "$pid"
}
