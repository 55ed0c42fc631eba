"""`facebridge acl`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bridge.cli.support import configuration_option, load
from bridge.model.names import is_group_name, is_serial_number
from bridge.mqtt.access.formats import USER_RULE, acl_file, dynamic_security, is_user_name
from bridge.mqtt.access.roles import ABOUT_ROLES, Doors, Role, UnlimitedRoleError, rules_of

_FORMATS = {"acl_file": acl_file, "dynsec": dynamic_security}


def _user(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not is_user_name(value):
        raise click.BadParameter(f"{USER_RULE}, not {value[:80]!r}")
    return value


def _names(_context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> Sequence[str]:
    is_name = is_serial_number if parameter.name == "sns" else is_group_name
    for value in values:
        if not is_name(value):
            raise click.BadParameter(f"must be 1 to 64 letters, digits, _ and -, not {value[:80]!r}")
    return tuple(dict.fromkeys(values))


class _AclCommand(click.Command):
    """Lists the roles in its help, from where they are told."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Roles"):
            formatter.write_dl([(role.value, about) for role, about in ABOUT_ROLES.items()])


@click.command(cls=_AclCommand)
@configuration_option
@click.option("--user", required=True, metavar="NAME", callback=_user, help="The broker user's name.")
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in Role]),
    multiple=True,
    required=True,
    help="What the user may do; given again, the roles add up.",
)
@click.option(
    "--terminal", "sns", metavar="SN", multiple=True, callback=_names, help="Only this terminal; may be given again."
)
@click.option(
    "--group",
    "groups",
    metavar="NAME",
    multiple=True,
    callback=_names,
    help="Only this group, asked for as a group; may be given again.",
)
@click.option(
    "--format", "form", type=click.Choice(list(_FORMATS)), default="acl_file", show_default=True, help="For what."
)
def acl(
    configuration: Path, user: str, roles: Sequence[str], sns: Sequence[str], groups: Sequence[str], form: str
) -> None:
    r"""Print what a broker user may publish and read, for Mosquitto.

    \b
    acl_file: append it to the file that `acl_file` names in mosquitto.conf, then send Mosquitto a SIGHUP.
    dynsec: one message of commands that makes the user and its role, or renews them:
      facebridge acl --user NAME --role operator --format dynsec |
        mosquitto_pub -u ADMIN -P … -q 1 -t '$CONTROL/dynamic-security/v1' -s
      mosquitto_ctrl -u ADMIN dynsec setClientPassword NAME

    Topics come from mqtt.base_topic (BASE) and homeassistant.prefix of the configuration. A user's Response Topics
    (MQTT 5) are those below BASE-replies/NAME.
    """
    settings = load(configuration)
    try:
        rules = rules_of(
            [Role(role) for role in roles],
            user,
            base=settings.mqtt.base_topic,
            prefix=settings.homeassistant.prefix,
            doors=Doors(sns=sns, groups=groups),
        )
    except UnlimitedRoleError as error:
        raise click.UsageError(f"{error}: leave out --terminal and --group") from None
    click.echo(_FORMATS[form](user, rules, _asked_with(user, roles, sns, groups)), nl=False)


def _asked_with(user: str, roles: Sequence[str], sns: Sequence[str], groups: Sequence[str]) -> str:
    options: list[tuple[str, Any]] = [("user", [user]), ("role", roles), ("terminal", sns), ("group", groups)]
    return " ".join(["facebridge acl", *(f"--{name} {value}" for name, values in options for value in values)])
