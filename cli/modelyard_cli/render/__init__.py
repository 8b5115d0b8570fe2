"""What is known → what is shown; pure."""
