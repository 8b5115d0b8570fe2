"""Copies models into a bucket, run where S3 is reachable: ``python -m demo.upload``.

Credentials come from the environment, in the names that S3 tools use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from obstore.store import S3Store


def upload(folder: Path, keys: list[str], *, endpoint: str, bucket: str) -> None:
    """Put files into a bucket under their paths below the folder.

    Args:
        folder: Holds the files.
        keys: Their paths, which are their keys as well.
        endpoint: URL of the S3 server.
        bucket: An existing bucket.
    """
    store = S3Store(
        bucket,
        endpoint=endpoint,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    for key in keys:
        store.put(key, folder / key)


def main() -> None:
    """Run the upload."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True, help="URL of the S3 server")
    parser.add_argument("--bucket", required=True, help="an existing bucket")
    parser.add_argument("folder", type=Path)
    parser.add_argument("keys", nargs="+")
    given = parser.parse_args()
    upload(given.folder, given.keys, endpoint=given.endpoint, bucket=given.bucket)


if __name__ == "__main__":
    main()
