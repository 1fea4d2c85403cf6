"""SpineOne detector: DICOM series in, ten graded keypoints out. No network, no SQL."""
