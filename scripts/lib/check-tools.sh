# kubectl, hadolint, yamllint, the schemas of Kubernetes and the Python that reads them: for what checks k8s/.
# shellcheck shell=bash
# Wants common.sh, and to be in the root of the repository.

LOCK=scripts/lib/check-requirements.txt
python -c '' # finds the interpreter, once
KEY=check-tools-$("$PYTHON" -c 'import sys; print("py%d.%d" % sys.version_info[:2])')-$(sha256sum "$LOCK" | cut -c1-12)

tools_fill() {
  local schemas
  python -m pip install --quiet --no-cache-dir --no-deps --require-hashes --only-binary :all: --target "$1" --requirement "$LOCK"
  # the schemas of one version of Kubernetes are enough
  schemas=$1/kubernetes_validate/kubernetes-json-schema
  [[ -d $schemas/v$KUBERNETES_SCHEMA_VERSION-local-strict ]]
  find "$schemas" -mindepth 1 -maxdepth 1 ! -name "v$KUBERNETES_SCHEMA_VERSION-local-strict" -exec rm -rf {} +
}
cached "$KEY" tools_fill "kubectl, hadolint, yamllint and the schemas of Kubernetes $KUBERNETES_SCHEMA_VERSION"
TOOLS=$CACHE/$KEY
export PYTHONPATH=$TOOLS PYTHONDONTWRITEBYTECODE=1
export CHECK_KUBECTL=$TOOLS/bin/kubectl
export CHECK_SCHEMAS=$TOOLS/kubernetes_validate/kubernetes-json-schema/v$KUBERNETES_SCHEMA_VERSION-local-strict

