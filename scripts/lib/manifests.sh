# What scripts/promote and scripts/rollback share: the clone of the manifests repository, its state, and the push.
# shellcheck shell=bash
# The repository has a branch an environment; on it k8s/ and scalers/ as promoted, and SOURCE, which says what they are:
#   images COMMIT TREE     the source's commit, and git's hash of k8s/ as the promotion left it
#   scalers COMMIT TREE    the same for scalers/

# shellcheck disable=SC2034  # read by scripts/promote
OUR_IMAGES='intake|ingestion|valuation|minting|backup|scalers'

# manifests_clone ENV: sets CLONE, a clone of the environment's branch.
manifests_clone() {
  local url=${MANIFESTS:-${MANIFESTS_REPOSITORY:-}}
  [[ -n $url ]] || die "which repository: --manifests URL, or MANIFESTS_REPOSITORY"
  CLONE=$WORK/manifests
  timeout 300 git clone --quiet --branch "$1" --single-branch "$url" "$CLONE" ||
    die "the branch $1 of $url cannot be cloned; it is made once, from k8s/argocd/manifests-repo (docs/runbooks/first-installation.md)"
}
in_clone() { git -C "$CLONE" "$@"; }
# Git's hash of a folder as it is in a commit; empty when there is none.
tree_of() { in_clone rev-parse --quiet --verify "$1:$2" || true; }
state_of() { in_clone show "$1:SOURCE" 2>/dev/null | awk -v word="$2" '$1 == word { print $2, $3 }'; }

# Nobody edits there by hand: what was changed since would be lost.
manifests_untouched() {
  local word folder source tree last
  for word in images scalers; do
    folder=scalers
    [[ $word == scalers ]] || folder=k8s
    read -r source tree <<<"$(state_of HEAD "$word")" || true
    [[ $(tree_of HEAD "$folder") != "${tree:-}" ]] || continue
    say "$folder/ in the manifests repository is not what the last promotion left there (${source:-none}):"
    last=$(in_clone log -1 --format=%H -- SOURCE)
    in_clone --no-pager diff "${last:-$(in_clone hash-object -t tree /dev/null)}" HEAD -- "$folder" >&2
    die "nothing is promoted over a change made by hand: bring it into the source repository, or take it back there (git revert)"
  done
}

# manifests_state WORD COMMIT: writes the line of SOURCE from what is staged.
manifests_state() {
  local folder=scalers tree other
  [[ $1 == scalers ]] || folder=k8s
  in_clone add --all -- "$folder"
  tree=$(in_clone rev-parse "$(in_clone write-tree):$folder")
  other=$(awk -v word="$1" '$1 != word' "$CLONE/SOURCE" 2>/dev/null || true)
  printf '%s\n%s %s %s\n' "$other" "$1" "$2" "$tree" | sed '/^$/d' | sort >"$WORK/SOURCE"
  cp "$WORK/SOURCE" "$CLONE/SOURCE"
  in_clone add SOURCE
}

kustomize_program() {
  local found
  command -v kubectl && return
  for found in "$CACHE"/check-tools-*/bin/kubectl; do [[ -x $found ]] && printf '%s' "$found" && return; done
  die "kubectl is missing, to see that the environment can be rendered: scripts/check brings one"
}
# manifests_render ENV: what the cluster would be given.
manifests_render() { timeout 120 "$(kustomize_program)" kustomize "$CLONE/k8s/overlays/$1"; }

# manifests_push ENV MODE SUBJECT BODY: one commit, on the branch or as a pull request.
manifests_push() {
  local environment=$1 mode=$2 subject=$3 body=$4 branch
  if in_clone diff --cached --quiet; then
    say "$environment is so already: nothing to do"
    return
  fi
  manifests_render "$environment" >"$WORK/rendered.yaml" || die "$environment cannot be rendered, see above; nothing was pushed"
  in_clone --no-pager diff --cached --stat >&2
  if ((DRY_RUN)); then
    in_clone --no-pager diff --cached
    say "--dry-run: nothing was pushed"
    return
  fi
  in_clone config user.name >/dev/null || in_clone config user.name "libertum deployment"
  in_clone config user.email >/dev/null || in_clone config user.email "deployment@libertum.example"
  in_clone commit --quiet -m "$subject" -m "$body"
  if [[ $mode == direct ]]; then
    timeout 120 git -C "$CLONE" push --quiet origin "HEAD:$environment" || die "somebody else has promoted to $environment meanwhile: run this again"
    say "$subject: pushed; Argo CD takes it up within three minutes"
    return
  fi
  branch=deploy/$environment-$(in_clone rev-parse --short=12 HEAD)
  timeout 120 git -C "$CLONE" push --quiet origin "HEAD:refs/heads/$branch" || die "$branch could not be pushed"
  say "$subject: on the branch $branch"
  if command -v gh >/dev/null && [[ -n ${GH_TOKEN:-} ]]; then
    (cd "$CLONE" && timeout 120 gh pr create --base "$environment" --head "$branch" --title "$subject" --body "$body")
  else
    say "open a pull request from it into $environment (gh pr create --base $environment --head $branch)"
  fi
}
