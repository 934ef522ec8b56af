#!/usr/bin/env bash
# Verifies every run of which the next commit adds, changes or removes a file: verify-staged-runs.sh FOLDER_OF_RUNS.
# Where nothing is staged (pre-commit run --all-files), every run that git tracks. Exit code 1 if one does not verify.
set -euo pipefail
runs=$1

changed() { git diff --cached --name-only --no-renames -z -- "$runs"; }
names() { if git diff --cached --quiet; then git ls-files -z -- "$runs"; else changed; fi; }

folder_of_run() { # the folder above a file that has a manifest, now or in the last commit; nothing where none has
  local folder
  folder=$(dirname -- "$1")
  while [ "$folder" != . ] && [ "$folder" != / ]; do
    # attempts/ of a run that was resumed holds manifests of its own, which are files of that run
    if [[ $folder != */attempts/* ]] && { [ -e "$folder/manifest.dsse.json" ] ||
      git cat-file -e "HEAD:$folder/manifest.dsse.json" 2> /dev/null; }; then
      printf '%s\0' "$folder"
      return
    fi
    folder=$(dirname -- "$folder")
  done
}

status=0
while IFS= read -r -d '' run; do
  # a whole run may be removed: the ledger still has it
  [ -e "$run" ] || continue
  ndrepro verify "$run" || status=1
done < <(names | while IFS= read -r -d '' file; do folder_of_run "$file"; done | sort -zu)
exit "$status"
