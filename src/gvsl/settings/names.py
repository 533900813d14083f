"""Names that help lists, of tables that are slow to import; the tests compare both."""

DATASET_NAMES = ("folder", "mmwhs", "asoca", "candi", "stoic", "decathlon", "nnunet", "totalsegmentator")
"""The keys of `gvsl.datasets.DATASETS`."""
TASK_SUMMARIES = {
    "segmentation": "the structures of your own store",
    "classification": "the two classes of your own store",
    "shc": "seven structures of the heart on CT",
    "sac": "the coronary arteries on CT",
    "sbm": "28 structures of the brain on MR",
    "ccc": "lungs with and without lesions on CT",
}
"""The tasks of `gvsl.datasets.tasks.TASKS`, with a line on each."""
PHANTOM_NAMES = ("shc", "sac", "sbm", "ccc")
"""The keys of `gvsl.phantom.cohort.ANATOMIES`."""
