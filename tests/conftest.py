"""Shape checks on, one compilation cache for all runs of the suite, and fixtures shared by the modules."""

import ctypes
import gc
import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

# Tracing and compiling take most of the suite's time, and half of the latter would be the optimisation of programs that
# run for a second. Later versions of XLA do not know the last flag any more, and would end the process. Without
# optimisation a program of one update rounds otherwise than one of several, so that tests of equal bits use several.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_parallel_codegen_split_count=1"  # the cores have tests of their own to compile
    + (" --xla_cpu_use_fusion_emitters=false" if version("jax").startswith("0.10.") else ""),
)

import jax
import pytest
from jaxtyping import install_import_hook

# Shapes and dtypes of the shared array functions are checked at each call of the suite.
install_import_hook("rlzoo.blocks", "beartype.beartype")

CACHE = Path(os.environ.get("RLZOO_TEST_CACHE", Path(__file__).parent.parent / ".cache" / "jax"))
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # other modules do the same small things
jax.config.update("jax_include_full_tracebacks_in_locations", False)  # to write them takes a twelfth of compiling


# A trace makes many small objects that live: to look through all of them as often as Python does by default would take
# a fifth of its time. `let_go` does it, whenever much has been compiled.
gc.disable()


MOST_MAPS = 12_000  # of memory, about 25 a program; the kernel ends a process of 65,530
MOST_PAGES = 2 * 2**30 // os.sysconf("SC_PAGE_SIZE")  # of memory in use, so that a few processes fit beside other work


def let_go() -> None:
    """Of all compiled programs, and of the memory that they took."""
    jax.clear_caches()
    gc.collect()
    with suppress(AttributeError):  # not every C library has it
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True)
def no_run_of_another_test_was_cut_off():
    yield
    from rlzoo import stops

    stops.ended("", whole=True)


@pytest.fixture(autouse=True)
def few_programs_in_memory():
    yield
    own = Path("/proc/self")
    if not own.exists():
        return
    maps, pages = (own / "maps").read_bytes().count(b"\n"), int((own / "statm").read_text().split()[1])
    if maps > MOST_MAPS or pages > MOST_PAGES:
        let_go()


@pytest.fixture(autouse=True, scope="module")
def no_programs_of_other_modules():
    yield
    let_go()


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
