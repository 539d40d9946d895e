"""What can be checked of the cloud files without a cloud."""

import configparser
import json
import os
import pathlib
import shlex
import subprocess

import pytest
import yaml
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments.run import flags

ROOT = pathlib.Path(flags.__file__).parents[2]
CLOUD = ROOT / "experiments" / "cloud"
SCRIPT = CLOUD / "launch_tpu_vm.sh"
NAMED = {"TPU": "t", "ZONE": "z"}
FAKE_GCLOUD = """#!/bin/bash
# Notes what it is asked, and answers with the state that the test names.
printf '%s\\0' "$@" >>"$CALLS"; printf '\\n' >>"$CALLS"
[ "$4" != describe ] || echo "$STATE"
"""


def assert_parses(arguments):
    """The flags exist, and their values are of their kinds."""
    with flagsaver.flagsaver():
        absl_flags.FLAGS.unparse_flags()
        assert absl_flags.FLAGS(["pipeline", *arguments]) == ["pipeline"]
        assert flags.workdir() and flags.settings()


def assert_installs(words):
    """``pip install`` of the project with extras that it has, at the newest tested versions."""
    (project,) = (word for word in words if word.startswith(".["))
    command = words[: words.index(project)]
    command = command[len(command) - command[::-1].index("install") - 1 :]
    constraints = command[command.index("--constraint") + 1]
    assert constraints == "constraints-newest.txt" and (ROOT / constraints).is_file()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert set(project[2:-1].split(",")) <= set(setup["options.extras_require"])


def test_the_script_asks_for_what_it_needs():
    bare = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, env={"PATH": "/bin"})
    assert bare.returncode and "name of the TPU" in bare.stderr
    named = {"PATH": "/bin", **NAMED}
    without = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, env=named)
    assert without.returncode == 2 and "flags of experiments.pipeline" in without.stderr


@pytest.mark.parametrize(
    ("state", "shared", "expected"),
    [
        ("", "", ["describe", "create", "scp", "ssh", "ssh"]),
        ("READY", "10.0.0.2:/share", ["describe", "scp", "ssh", "ssh", "ssh"]),
        ("PREEMPTED", "", ["describe", "delete", "create", "scp", "ssh", "ssh"]),
    ],
)
def test_the_script_makes_what_is_missing_and_starts_the_pipeline(
    tmp_path, state, shared, expected
):
    (tmp_path / "gcloud").write_text(FAKE_GCLOUD)
    (tmp_path / "gcloud").chmod(0o755)
    # A copy with a repository of its own, of which it sends what is committed.
    cloud = tmp_path / "project" / "experiments" / "cloud"
    cloud.mkdir(parents=True)
    (cloud / SCRIPT.name).write_text(SCRIPT.read_text())
    git = ["git", "-C", tmp_path / "project", "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    given = [
        f"--flagfile={ROOT / 'experiments/configs/demo.flags'}",
        "--workdir=/mnt/shared/runs/a b",
        "--data_dir=/mnt/shared/data",
    ]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **NAMED}
    environment |= {"SHARED": shared, "STATE": state, "CALLS": str(tmp_path / "calls")}
    subprocess.run(["bash", cloud / SCRIPT.name, *given], check=True, env=environment)
    calls = [line.split("\0") for line in (tmp_path / "calls").read_text().split("\0\n")[:-1]]
    assert [call[3] for call in calls] == expected
    for call in calls:
        assert call[:3] == ["compute", "tpus", "tpu-vm"] and "--zone=z" in call
    remote = [call[-1].removeprefix("--command=") for call in calls if call[3] == "ssh"]
    for command in remote:
        subprocess.run(["bash", "-n"], input=command, text=True, check=True)
    assert_installs(shlex.split(remote[0]))
    assert any(f"mount -t nfs '{shared}' /mnt/shared" in command for command in remote) == bool(
        shared
    )
    words = shlex.split(remote[-1])
    module = words.index("experiments.pipeline")
    assert words[module - 2 : module] == [".venv/bin/python", "-m"]
    assert words[module + 1 :] == given
    assert_parses(given)


MANIFEST = {
    "apiVersion": "jobset.x-k8s.io/v1alpha2",
    "kind": "JobSet",
    "metadata": {"name": str},
    "spec": {
        "failurePolicy": {"maxRestarts": int},
        "replicatedJobs": [
            {
                "name": str,
                "replicas": int,
                "template": {
                    "spec": {
                        "parallelism": int,
                        "completions": int,
                        "backoffLimit": int,
                        "template": {
                            "spec": {
                                "restartPolicy": "Never",
                                "terminationGracePeriodSeconds": int,
                                "nodeSelector": {
                                    "cloud.google.com/gke-tpu-accelerator": str,
                                    "cloud.google.com/gke-tpu-topology": str,
                                    "cloud.google.com/gke-spot": "true",
                                },
                                "containers": [
                                    {
                                        "name": str,
                                        "image": str,
                                        "args": [str],
                                        "resources": {"limits": {"google.com/tpu": str}},
                                        "volumeMounts": [{"name": str, "mountPath": str}],
                                    }
                                ],
                                "volumes": [
                                    {"name": str, "persistentVolumeClaim": {"claimName": str}}
                                ],
                            }
                        },
                    }
                },
            }
        ],
    },
}
"""The fields of a JobSet that the manifest uses, at their places in the API, and their types."""


def assert_shaped(value, shape, place="manifest"):
    """The very fields of the shape, of its types: a server refuses what it does not know."""
    if isinstance(shape, dict):
        assert isinstance(value, dict) and value.keys() == shape.keys(), place
        for name, part in shape.items():
            assert_shaped(value[name], part, f"{place}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list) and value, place
        for number, item in enumerate(value):
            assert_shaped(item, shape[0], f"{place}[{number}]")
    elif isinstance(shape, type):
        assert type(value) is shape, (place, value)
    else:
        assert value == shape, (place, value)


def test_the_manifest_is_a_job_set_whose_flags_exist():
    manifest = yaml.safe_load((CLOUD / "jobset.yaml").read_text())
    assert_shaped(manifest, MANIFEST)
    (job,) = manifest["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    chips = int(container["resources"]["limits"]["google.com/tpu"])
    across = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    assert spec["parallelism"] * chips == int(across[0]) * int(across[1])
    assert spec["completions"] == spec["parallelism"] and spec["backoffLimit"] == 0
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    (mount,) = container["volumeMounts"]
    arguments = dict(argument.split("=", 1) for argument in container["args"])
    for name in ("--workdir", "--data_dir"):
        assert arguments[name].startswith(mount["mountPath"] + "/")
    flagfile = ROOT / arguments.pop("--flagfile")  # As it stands in the image.
    assert_parses([f"--flagfile={flagfile}", *(f"{k}={v}" for k, v in arguments.items())])


def test_the_image_starts_what_the_project_has():
    lines = (CLOUD / "Dockerfile").read_text().splitlines()
    instructions = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    assert [name for name, _ in instructions] == ["FROM", "WORKDIR", "COPY", "RUN", "ENTRYPOINT"]
    assert_installs(shlex.split(instructions[3][1]))
    words = json.loads(instructions[4][1])
    assert words[:2] == ["python", "-m"] and (ROOT / f"{words[2].replace('.', '/')}.py").is_file()
