"""What tests import in place of the package reasoning-gym, with tasks of its interface."""
