"""What goes wrong."""

from __future__ import annotations


class CnnkitError(RuntimeError):
    """The sentence with which libcnn refused or failed.

    `status` says of which kind it is: "bad file format", "out of memory" and so on.
    """

    def __init__(self, message: str, status: str = "") -> None:
        super().__init__(message)
        self.status = status
