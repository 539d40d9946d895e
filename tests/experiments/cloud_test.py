"""What can be checked of the cloud files without a cloud."""

import pathlib
import shlex
import subprocess

import yaml
from absl import flags as absl_flags

from experiments import flags

ROOT = pathlib.Path(flags.__file__).parents[1]
CLOUD = ROOT / "experiments" / "cloud"


def test_the_script_parses_and_asks_for_what_it_needs():
    script = str(CLOUD / "launch_tpu_vm.sh")
    subprocess.run(["bash", "-n", script], check=True)
    bare = subprocess.run(["bash", script], capture_output=True, text=True, env={"PATH": "/bin"})
    assert bare.returncode and "name of the TPU" in bare.stderr
    named = {"PATH": "/bin", "TPU": "t", "ZONE": "z", "SHARED": "s:/s"}
    without = subprocess.run(["bash", script], capture_output=True, text=True, env=named)
    assert without.returncode == 2 and "flags of experiments.pipeline" in without.stderr


def test_the_manifest_is_a_job_set_whose_flags_exist():
    manifest = yaml.safe_load((CLOUD / "jobset.yaml").read_text())
    assert manifest["apiVersion"] == "jobset.x-k8s.io/v1alpha2" and manifest["kind"] == "JobSet"
    (job,) = manifest["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    chips = int(container["resources"]["limits"]["google.com/tpu"])
    across = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    assert spec["parallelism"] * chips == int(across[0]) * int(across[1])
    assert spec["completions"] == spec["parallelism"] and spec["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    for argument in container["args"]:
        name, _, value = argument.removeprefix("--").partition("=")
        if name == "flagfile":
            assert (ROOT / value).is_file()
        else:
            assert name in absl_flags.FLAGS


def test_the_image_starts_what_the_project_has():
    lines = (CLOUD / "Dockerfile").read_text().splitlines()
    instructions = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    assert [name for name, _ in instructions] == ["FROM", "WORKDIR", "COPY", "RUN", "ENTRYPOINT"]
    words = shlex.split(instructions[3][1])
    assert words[:2] == ["pip", "install"] and (ROOT / "constraints.txt").is_file()
    assert "\ntpu = " in (ROOT / "setup.cfg").read_text()
    assert "experiments.pipeline" in instructions[4][1]
