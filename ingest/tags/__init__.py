"""Finding whale tags, and erasing from them what is proven to be stored."""
