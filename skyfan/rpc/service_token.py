"""The services' token: in the environment, or in AWS Secrets Manager for Lambda, whose environment should hold none.

Without gRPC: an executor on Lambda imports this and calls nobody.
"""

import os

from skyfan.errors import BadInput, Transient
from skyfan.settings import CallSettings, read, variable

TOKEN_VARIABLE = variable(CallSettings, "token")
SECRET_VARIABLE = variable(CallSettings, "token_secret")
_TIMEOUT_S = 5


def shared_token() -> str:
    """The secret that every call carries; empty where none is set."""
    return read(CallSettings).token.get_secret_value()


def fetch_service_token() -> None:
    """Puts the token into this process's environment, once, where all calls look for it.

    Raises:
        Transient: Secrets Manager does not give it.
        BadInput: the secret holds no text.
    """
    secret = read(CallSettings).token_secret
    if not secret or shared_token():
        return
    # Imported here: only ranks on Lambda that talk to each other need it.
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    config = Config(connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": 3})
    try:
        found = boto3.client("secretsmanager", config=config).get_secret_value(SecretId=secret)
    except (BotoCoreError, ClientError) as error:
        raise Transient(f"{SECRET_VARIABLE} names {secret}, which cannot be read: {error}.") from error
    token = found.get("SecretString")
    if not token:
        raise BadInput(f"{SECRET_VARIABLE} names {secret}, which holds no text; store the services' token in it.")
    os.environ[TOKEN_VARIABLE] = token
