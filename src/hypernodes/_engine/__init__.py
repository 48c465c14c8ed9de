"""The engine: compiles pipelines into plans and runs them; nothing here is for users to import."""
