"""The 3D-UNet of AIF and its sizes."""
