"""Turning a volume's axes towards the patient's right, front and top."""

import nibabel

from gvsl.io.volume import Volume


def to_canonical(volume: Volume) -> Volume:
    """Reorder and flip the axes so that they grow to the right, the front and the top (RAS+), exactly.

    The array may be a view of the one given. An oblique volume gets the axes that come nearest; it stays
    oblique, and its affine says so.
    """
    turns = nibabel.io_orientation(volume.affine)
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(turns, volume.array.shape)
    return Volume(nibabel.apply_orientation(volume.array, turns), affine)
