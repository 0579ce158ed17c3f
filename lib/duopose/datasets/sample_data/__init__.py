"""Drawn people in COCO format: a data set that needs no download, is learnt in minutes, and has exact labels.

`body` poses a figure in three dimensions, `figure` draws one, `scene` fills an image and labels it, `write` makes the files.

The drawn world has no left or right of its own: every cue that tells a person's left from its right (face or back of
the head, front or back of the shirt, which arm is nearer) is mirrored together with the names of the keypoints. So a
mirrored image is again an image of this world, and flipping it for training contradicts nothing. A cue such as "the
left sleeve is red" would not do: in the mirror the red sleeve is the right one.
"""
