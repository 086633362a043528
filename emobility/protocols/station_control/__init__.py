"""Between gateway and back office: authorise upwards, command downwards."""
