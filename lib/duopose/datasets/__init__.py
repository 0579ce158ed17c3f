"""From files to batches: annotation files, images, augmentation, data set, loader.

    annotation file -> annotations.AnnotatedPeople    image folder or zip -> split_files.ImageSource
    both -> dataset.CocoFormatDataset -> (transforms.augment) -> loader.make_data_loader -> Batch

Subfolders: check/ (problems of a data set), prepare/ (converters), sample_data/ (generated people).
"""

from duopose.datasets.build import build_dataset

__all__ = ["build_dataset"]
