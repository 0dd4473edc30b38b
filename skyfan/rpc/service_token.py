"""The services' token where it lies in AWS Secrets Manager: on Lambda, whose environment should hold no secret."""

import os

from skyfan.errors import BadInput, Transient
from skyfan.rpc.credentials import TOKEN_VARIABLE, shared_token
from skyfan.settings import CallSettings, read, variable

SECRET_VARIABLE = variable(CallSettings, "token_secret")
_TIMEOUT_S = 5


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
