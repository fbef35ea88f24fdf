"""Parts of an HDF5 file that can hold k-space: groups of acquisitions, and datasets of samples."""

import h5py
from h5py import h5z

from kdmri.errors import InvalidRequest, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import hdf5

FILTERS = {
    305: "LZO",
    307: "bzip2",
    308: "LZF of another version",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32024: "SZ3",
    32026: "Blosc2",
}
"""Registered HDF5 filters by number (The HDF Group's list). What h5py has itself is read."""
MOST_NAMES = 8
LONGEST_NAME = 40
OTHER_THAN_KSPACE = ("mask", "recon", "sens", "map", "csm", "noise", "traj", "calib", "image", "img")
"""Parts of names of complex datasets that lie beside k-space in published files, and are none."""
AXES = (3, 4, 5)


def check_filters(dataset: h5py.Dataset) -> None:
    """Raise UnsupportedInput, naming the filter, for a dataset compressed by one that is not at hand."""
    with hdf5.intact():
        pipeline = dataset.id.get_create_plist()
        codes = [pipeline.get_filter(number)[0] for number in range(pipeline.get_nfilters())]
        absent = [code for code in codes if not h5z.filter_avail(code)]
    if absent:
        named = FILTERS.get(absent[0], "an unknown filter")
        raise UnsupportedInput(
            f"expected HDF5 compressed by gzip, LZF or not at all, got {named} (filter {absent[0]}): convert it by "
            "h5repack -f GZIP=4 IN OUT, with the filter's plugin installed"
        )


def kspace_dataset(file: h5py.File, wanted: str | None) -> tuple[h5py.Group, h5py.Dataset, tuple[str, ...]] | None:
    """Find the dataset of samples: `kspace`, the one that was asked for, or the only complex one.

    Args:
        file: an open file.
        wanted: path of a dataset, or of a group that has `kspace` in it; None for the best.

    Returns:
        The group it lies in, the dataset, and notes; None where the file has nothing of the kind.

    Raises:
        UnreadableKSpace: several datasets could be the k-space, and none was asked for.
    """
    if wanted is not None:
        found = _at(file, wanted)
        if isinstance(found, h5py.Group):
            found = hdf5.member(found, "kspace")
        return (found.parent, found, ()) if isinstance(found, h5py.Dataset) else None
    plain = hdf5.member(file, "kspace")
    if plain is not None:
        if not isinstance(plain, h5py.Dataset):
            raise UnreadableKSpace("expected complex k-space (slice, coil, row, column), got no dataset `kspace`")
        return file, plain, ()
    # A name with "kspace" in it comes before all others; masks, maps and images are complex as well in some files.
    candidates = [(group, dataset) for group in hdf5.groups(file) for dataset in _complex(group)]
    named = [pair for pair in candidates if "kspace" in name_of(pair[1]).lower().replace("_", "").replace("-", "")]
    chosen = named or [
        pair for pair in candidates if not any(part in name_of(pair[1]).lower() for part in OTHER_THAN_KSPACE)
    ]
    if not chosen:
        return None
    if len(chosen) > 1:
        listed = "; ".join(_describe(dataset) for _, dataset in chosen[:MOST_NAMES])
        raise UnreadableKSpace(
            f"expected one dataset of k-space, got {len(chosen)}: {listed}. Choose one by the parameter group"
        )
    group, dataset = chosen[0]
    return group, dataset, (f"The dataset {name_of(dataset)} was taken for the k-space: there is none named kspace.",)


def _complex(group: h5py.Group) -> list[h5py.Dataset]:
    """Return the complex datasets of a group that have as many axes as k-space."""
    found = []
    with hdf5.intact():
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            dataset = group[name]
            if isinstance(dataset, h5py.Dataset) and dataset.ndim in AXES:
                fields = dataset.dtype.names
                if dataset.dtype.kind == "c" or fields in (("real", "imag"), ("r", "i")):
                    found.append(dataset)
    return found


def contents(file: h5py.File) -> str:
    """List the datasets of a file by name, type and shape, for a refusal."""
    found = []
    for group in hdf5.groups(file):
        with hdf5.intact():
            names = [name for name in group if isinstance(group.get(name, getlink=True), h5py.HardLink)]
            found += [_describe(group[name]) for name in names if isinstance(group[name], h5py.Dataset)]
    rest = f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
    return f"{'; '.join(found[:MOST_NAMES])}{rest}" if found else "no dataset"


def holds_images(file: h5py.File) -> bool:
    """Recognise an ISMRMRD file of images: groups with `data` and `header`, one or two levels down."""
    for group in hdf5.groups(file):
        with hdf5.intact():
            inner = [group[name] for name in group if isinstance(group.get(name, getlink=True), h5py.HardLink)]
        for found in (group, *inner):
            if isinstance(found, h5py.Group) and {"data", "header"} <= set(found):
                return True
    return False


def groups(file: h5py.File, wanted: str | None) -> list[h5py.Group]:
    """Return the groups to look for acquisitions in: all, or the one that was asked for."""
    if wanted is None:
        return list(hdf5.groups(file))
    found = _at(file, wanted)
    return [found] if isinstance(found, h5py.Group) else []


def _at(file: h5py.File, path: str) -> h5py.Group | h5py.Dataset:
    """Follow a path, by hard links only. Raises InvalidRequest, with the groups there are, where it leads nowhere."""
    found: h5py.Group | h5py.Dataset | None = file
    for name in path.strip("/").split("/"):
        if name:
            found = hdf5.member(found, name) if isinstance(found, h5py.Group) else None
    if found is None:
        names = [name_of(group) for group in hdf5.groups(file) if group.name != "/"]
        raise InvalidRequest(
            f"expected one of the file's groups: {', '.join(names[:MOST_NAMES]) or 'none but the root'}"
        )
    return found


def name_of(part: h5py.Group | h5py.Dataset) -> str:
    """Return a name without its leading slash, printable and of bounded length."""
    # A name comes from outside, and goes into messages and headers: neither length nor characters may be any.
    text = "".join(letter for letter in str(part.name).strip("/") if letter.isprintable() and letter.isascii())
    return text[:LONGEST_NAME] or "/"


def _describe(dataset: h5py.Dataset) -> str:
    dtype = "complex pairs" if dataset.dtype.names in (("real", "imag"), ("r", "i")) else str(dataset.dtype.name)[:12]
    return f"{name_of(dataset)} {dtype} {dataset.shape}"
