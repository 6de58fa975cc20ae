"""First-party plugins of ssl3d: methods and backbones, one file each."""
