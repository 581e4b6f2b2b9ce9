"""Search methods: from start molecules to better ones. One file a method."""
