"""Payment providers behind the `payments` port."""
