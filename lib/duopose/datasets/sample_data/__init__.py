"""Generated images of people in COCO format: exact labels, no download, trained on in minutes.

`body` poses a body in three dimensions, `figure` draws it, `scene` fills an image and labels it,
`write` makes the files.

The drawn world has no absolute left or right: every cue that distinguishes a person's left from its
right (face or back of the head, front or back of the shirt, which arm is nearer) mirrors together
with the keypoint names. So a mirrored image is again an image of this world, and flip augmentation
is valid. A red left sleeve would not do: in the mirrored image the red sleeve is the right one.
"""
