"""Where the libraries of the embedded Apache Kafka broker come from: pinned, fetched by Maven, checked."""
