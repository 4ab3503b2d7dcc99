"""What a program that sends tasks uses: App, Task, AsyncResult."""
