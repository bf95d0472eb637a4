"""What `encode` can write for annotation and research tools, beside the images and videos of `outputs`."""
