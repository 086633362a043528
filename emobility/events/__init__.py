"""The only place where events are defined: frozen dataclasses, their envelope, their catalogue and their codec."""
