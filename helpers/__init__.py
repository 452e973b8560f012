"""What the chapters of *Learning from Imbalanced Data* share.

A module a subject: data (`datasets`, `photos`, `tables`, `messages`, `networks`), what is trained (`models`,
`training`), what is compared (`experiments`, `runs`), what is read off (`results`, `claims`, `plots`), and what these
stand on. Imports run one way, which a test watches; nothing is imported here, so that you pay only for what you use.
"""

import re
from importlib import metadata

__version__ = "0.1.0"


def mismatch(torch: str, torchvision: str, wanted: str) -> str | None:
    """Say what is wrong where torchvision was built for another torch.

    The pair then fails late and in riddles (``operator torchvision::nms does not exist``), so this is asked at once.

    Parameters
    ----------
    torch, torchvision : str
        The installed versions.
    wanted : str
        The version of torch that this torchvision asks for.

    Returns
    -------
    str or None
        One line that says what to do; None where the two belong together.

    Examples
    --------
    >>> mismatch("2.15.0+cu132", "0.29.2", "2.15.0")
    >>> print(mismatch("2.13.0", "0.29.2", "2.15.0"))
    torch 2.13.0 and torchvision 0.29.2 do not belong together: install torch 2.15.0, or the torchvision made for 2.13.0
    """
    def series(version):
        return re.findall(r"\d+", version)[:2]

    if series(torch) == series(wanted):
        return None
    return (f"torch {torch} and torchvision {torchvision} do not belong together: "
            f"install torch {wanted}, or the torchvision made for {torch}")


def _check_versions() -> None:
    """Read the versions from the packages' metadata, which takes a millisecond and imports neither."""
    try:
        torch, torchvision = metadata.version("torch"), metadata.version("torchvision")
        requirements = metadata.requires("torchvision") or []
    except metadata.PackageNotFoundError:
        return
    wanted = [match[1] for line in requirements if (match := re.match(r"torch\s*\(?==\s*([\w.+]+)", line))]
    trouble = mismatch(torch, torchvision, wanted[0]) if wanted else None
    if trouble:
        raise ImportError(trouble)


_check_versions()
