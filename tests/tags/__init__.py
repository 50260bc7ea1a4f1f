"""Tests of finding tags, and of erasing from them."""
