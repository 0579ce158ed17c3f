"""The perfect-network test: decoding of ideal maps that are rendered from annotations."""
