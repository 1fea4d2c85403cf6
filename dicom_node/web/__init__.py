"""The web process: health, metrics, and a status page to look at. It reads; nothing can be changed through it."""
