"""What a train step costs on an accelerator, by the compiler's own figures."""
