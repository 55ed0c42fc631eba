"""`facebridge acl`: access rules for the users of a Mosquitto broker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bridge.cli.support import configuration_option, group_name, load, serial_number
from bridge.mqtt.access.formats import USER_RULE, acl_file, dynamic_security, is_user_name
from bridge.mqtt.access.roles import ROLE_DESCRIPTIONS, Role, TerminalSelection, UnlimitedRoleError, rules_of

_FORMATS = {"acl_file": acl_file, "dynsec": dynamic_security}


def _user(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not is_user_name(value):
        raise click.BadParameter(f"{value[:80]!r}: {USER_RULE}")
    return value


def _without_repeats(values: Sequence[str]) -> Sequence[str]:
    return tuple(dict.fromkeys(values))


class _AclCommand(click.Command):
    """A command with a list of the roles in its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the roles below the options."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Roles"):
            formatter.write_dl([(role.value, about) for role, about in ROLE_DESCRIPTIONS.items()])


@click.command(cls=_AclCommand)
@configuration_option
@click.option("--user", required=True, metavar="NAME", callback=_user, help="The broker user's name.")
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in Role]),
    multiple=True,
    required=True,
    help="What the user may do. Repeat the option to add roles.",
)
@click.option(
    "--terminal",
    "sns",
    metavar="SN",
    multiple=True,
    callback=serial_number,
    help="Limit the roles to this terminal. Repeat the option for several.",
)
@click.option(
    "--group",
    "groups",
    metavar="NAME",
    multiple=True,
    callback=group_name,
    help="Limit the roles to this group, addressed as a group. Repeat the option for several.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(list(_FORMATS)),
    default="acl_file",
    show_default=True,
    help="The kind of rules.",
)
def acl(
    configuration: Path, user: str, roles: Sequence[str], sns: Sequence[str], groups: Sequence[str], output_format: str
) -> None:
    """Print the access rules of a Mosquitto user.

    \b
    acl_file: append the output to the file that `acl_file` in mosquitto.conf names, then send SIGHUP to Mosquitto.
    dynsec: one message with commands that create or renew the user and its role:
      facebridge acl --user NAME --role operator --format dynsec |
        mosquitto_pub -u ADMIN -P … -q 1 -t '$CONTROL/dynamic-security/v1' -s
      mosquitto_ctrl -u ADMIN dynsec setClientPassword NAME

    The topics follow mqtt.base_topic (BASE) and homeassistant.prefix of the configuration. The user's Response Topics
    (MQTT 5) must be below BASE-replies/NAME.
    """  # noqa: D301  click reads the backspace character
    settings = load(configuration)
    sns, groups = _without_repeats(sns), _without_repeats(groups)
    try:
        rules = rules_of(
            [Role(role) for role in roles],
            user,
            base=settings.mqtt.base_topic,
            prefix=settings.homeassistant.prefix,
            selection=TerminalSelection(sns=sns, groups=groups),
        )
    except UnlimitedRoleError as error:
        raise click.UsageError(f"{error}: leave out --terminal and --group") from None
    click.echo(_FORMATS[output_format](user, rules, _command_line(user, roles, sns, groups)), nl=False)


def _command_line(user: str, roles: Sequence[str], sns: Sequence[str], groups: Sequence[str]) -> str:
    """Return the command that prints the same rules, for the comment above them."""
    options: list[tuple[str, Any]] = [("user", [user]), ("role", roles), ("terminal", sns), ("group", groups)]
    return " ".join(["facebridge acl", *(f"--{name} {value}" for name, values in options for value in values)])
