"""What a vision-language model reads and answers: frames as patches, and tokens one by one."""
