"""Shape checks on, one compilation cache for all runs of the suite, and fixtures shared by the modules."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# Compiling takes most of the suite's time, and half of that is the optimisation of programs that run for a second.
# Later versions of XLA do not know the second flag any more, and would end the process. Under it a program of one
# update rounds otherwise than one of several, so that tests of equal bits use several.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jax").startswith("0.10.") else ""),
)

import jax
import pytest
from jaxtyping import install_import_hook

# Shapes and dtypes of the shared array functions are checked at each call of the suite.
install_import_hook("rlzoo.blocks", "beartype.beartype")

CACHE = Path(os.environ.get("RLZOO_TEST_CACHE", Path(__file__).parent.parent / ".cache" / "jax"))
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(autouse=True)
def few_programs_in_memory():
    """Let go of compiled programs before the kernel's limit on memory maps (65,530 a process, about 25 a program).

    Beyond it the compiler's next allocation fails, and the process ends with a segmentation fault.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def cartpole():
    import rlzoo

    return rlzoo.envs.make("gymnax/CartPole-v1")


@pytest.fixture(scope="session")
def tiny(cartpole):
    """A PPO small enough to compile and run in a second or two."""
    from rlzoo import ppo

    return ppo.make(cartpole, TINY)


def _tiny():
    from rlzoo import ppo

    return ppo.Config(num_envs=4, num_steps=16, num_epochs=2, num_minibatches=2, hidden=(16,))


TINY = _tiny()
