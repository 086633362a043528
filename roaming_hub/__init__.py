"""The roaming hub: routes OCPI between parties and holds no business of its own."""
