"""Writing what the model reads: chat templates, conversations and question sheets."""
