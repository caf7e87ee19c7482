"""`make demo`: starts Interlock and shows its main job on real Terraform, with the commands that a user would type."""
