"""The peers' own environment: what is in it, and what its interpreter runs."""

import pathlib

from experiments.benchmarks.peer_environment import PeerEnvironment

_HERE = pathlib.Path(__file__).parent
PROGRAM = _HERE / "process"
"""What the peers' interpreter runs."""

_CLOSED = "http://127.0.0.1:9"
"""deepctr-torch asks the package index for its newest version whenever it is imported; here that
request goes to a closed port, so that it ends at once.
"""

ENVIRONMENT = PeerEnvironment(
    name="the peers",
    requirements=_HERE / "requirements.txt",
    program=(str(PROGRAM),),
    flag="--peers_python",
    variables={"HTTPS_PROXY": _CLOSED, "https_proxy": _CLOSED, "CUDA_VISIBLE_DEVICES": ""},
)
