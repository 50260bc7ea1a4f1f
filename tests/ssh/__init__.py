"""Tests of devices reached over SSH, against real SSH servers."""
