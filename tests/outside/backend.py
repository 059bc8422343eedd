"""A build backend without dependencies, so that the package can be installed without a network."""

import base64
import hashlib
import pathlib
import zipfile

NAME = "scoresde_outside"
INFO = f"{NAME}-0.1.dist-info"
FILES = {
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: scoresde-outside\nVersion: 0.1\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: backend\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": f"[scoresde.components]\nprocess.linear_log_snr = {NAME}.processes:LinearLogSNR\n",
}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    files = FILES | {f"{NAME}/{path.name}": path.read_text() for path in sorted(pathlib.Path(NAME).glob("*.py"))}
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text.encode())}\n"
    wheel = f"{NAME}-0.1-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{INFO}/RECORD", record + f"{INFO}/RECORD,,\n")
    return wheel
