// Copyright: Contributors to the kiban.baremetal project
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.batfish.common.BatfishLogger;
import org.batfish.common.NetworkSnapshot;
import org.batfish.common.Warnings;
import org.batfish.config.Settings;
import org.batfish.datamodel.BgpPeerConfig;
import org.batfish.datamodel.BgpProcess;
import org.batfish.datamodel.BgpSessionProperties;
import org.batfish.datamodel.BgpSessionProperties.SessionType;
import org.batfish.datamodel.Bgpv4Route;
import org.batfish.datamodel.Configuration;
import org.batfish.datamodel.ConfigurationFormat;
import org.batfish.datamodel.Interface;
import org.batfish.datamodel.Ip;
import org.batfish.datamodel.Prefix;
import org.batfish.datamodel.answers.ConvertConfigurationAnswerElement;
import org.batfish.datamodel.routing_policy.Environment.Direction;
import org.batfish.datamodel.routing_policy.RoutingPolicy;
import org.batfish.identifiers.NetworkId;
import org.batfish.identifiers.SnapshotId;
import org.batfish.job.ConvertConfigurationJob;
import org.batfish.job.ParseResult;
import org.batfish.job.ParseVendorConfigurationJob;
import org.batfish.vendor.VendorConfiguration;
import org.batfish.vendor.arista.representation.AristaConfiguration;
import org.batfish.vendor.arista.representation.MlagConfiguration;
import org.batfish.vendor.cisco_nxos.representation.CiscoNxosConfiguration;

/**
 * What Batfish makes of configurations. Each line of the standard input is an object: "format" (of Batfish), "text",
 * and "probes", prefixes. Each line of the output is its answer: "problems", and "model" unless the text could not be
 * read.
 */
class SwitchConfigurations {
  private static final String NAME = "switch";
  private static final Settings SETTINGS = new Settings(new String[] {});

  public static void main(String[] args) throws Exception {
    PrintStream out = System.out;
    System.setOut(System.err);
    SETTINGS.setLogger(new BatfishLogger(BatfishLogger.LEVELSTR_FATAL, false));
    ObjectMapper mapper = new ObjectMapper();
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      out.println(mapper.writeValueAsString(answer(mapper.readTree(line))));
    }
  }

  private static Map<String, Object> answer(JsonNode asked) {
    List<String> problems = new ArrayList<>();
    Map<String, Object> answer = new TreeMap<>();
    answer.put("problems", problems);
    ParseResult parsed =
        new ParseVendorConfigurationJob(
                SETTINGS,
                new NetworkSnapshot(new NetworkId("network"), new SnapshotId("snapshot")),
                Map.of(NAME, asked.get("text").asText()),
                new Warnings.Settings(true, true, true),
                ConfigurationFormat.valueOf(asked.get("format").asText()),
                com.google.common.collect.HashMultimap.create())
            .parse();
    parsed
        .getFileResults()
        .values()
        .forEach(
            file -> tell(problems, file.getWarnings()));
    tell(problems, parsed.getWarnings());
    VendorConfiguration read = parsed.getConfig();
    if (read == null) {
      problems.add(String.valueOf(parsed.getFailureCause()));
      return answer;
    }
    Map<String, Configuration> made = new TreeMap<>();
    ConvertConfigurationAnswerElement said = new ConvertConfigurationAnswerElement();
    new ConvertConfigurationJob(SETTINGS, null, null, read, NAME).call().applyTo(made, SETTINGS.getLogger(), said);
    tell(problems, read.getWarnings());
    said.getWarnings().values().forEach(one -> tell(problems, one));
    said.getErrors().values().forEach(one -> problems.add(String.valueOf(one)));
    said.getUndefinedReferences()
        .values()
        .forEach(types -> types.forEach((type, names) -> problems.add("undefined " + type + " " + names)));
    for (Configuration one : made.values()) {
      answer.put("model", model(one, read, asked.get("probes")));
    }
    return answer;
  }

  private static void tell(List<String> problems, Warnings warnings) {
    warnings
        .getParseWarnings()
        .forEach(one -> problems.add(one.getLine() + ": " + one.getText() + ": " + one.getComment()));
    warnings.getRedFlagWarnings().forEach(one -> problems.add(one.getText()));
    warnings.getUnimplementedWarnings().forEach(one -> problems.add(one.getText()));
  }

  private static Map<String, Object> model(Configuration made, VendorConfiguration read, JsonNode probes) {
    Map<String, Object> model = new TreeMap<>();
    Map<String, Object> interfaces = new TreeMap<>();
    made.getAllInterfaces().forEach((name, one) -> interfaces.put(name, iface(one)));
    model.put("interfaces", interfaces);
    model.put("vlans", vlans(read));
    MlagConfiguration pair = read instanceof AristaConfiguration arista ? arista.getEosMlagConfiguration() : null;
    if (pair != null) {
      Map<String, Object> mlag = new TreeMap<>();
      mlag.put("domain", pair.getDomainId());
      mlag.put("peer", String.valueOf(pair.getPeerAddress()));
      mlag.put("heartbeat", String.valueOf(pair.getPeerAddressHeartbeat()));
      mlag.put("local", pair.getLocalInterface());
      mlag.put("link", pair.getPeerLink());
      model.put("mlag", mlag);
    }
    Map<String, Object> filters = new TreeMap<>();
    made.getRouteFilterLists()
        .forEach(
            (name, list) ->
                filters.put(
                    name,
                    list.getLines().stream()
                        .map(one -> one.getAction() + " " + one.getIpWildcard().toPrefix() + " " + one.getLengthRange())
                        .toList()));
    model.put("filters", filters);
    BgpProcess bgp = made.getDefaultVrf().getBgpProcess();
    if (bgp != null) {
      model.put("bgp", bgp(made, bgp, probes));
    }
    return model;
  }

  private static Map<String, Object> iface(Interface one) {
    Map<String, Object> found = new TreeMap<>();
    found.put("description", one.getDescription());
    found.put("mtu", one.getMtu());
    found.put("up", one.getAdminUp());
    found.put("mode", String.valueOf(one.getSwitchportMode()));
    found.put("access", one.getAccessVlan());
    found.put("native", one.getNativeVlan());
    found.put("allowed", String.valueOf(one.getAllowedVlans()));
    found.put("lag", one.getChannelGroup());
    found.put("mlag", one.getMlagId());
    found.put("addresses", one.getAllConcreteAddresses().stream().map(String::valueOf).sorted().toList());
    return found;
  }

  /** Those that are defined, with their names as far as the parser keeps them. */
  private static Map<String, Object> vlans(VendorConfiguration read) {
    Map<String, Object> found = new TreeMap<>();
    if (read instanceof AristaConfiguration arista) {
      IntStream.range(2, 4095)
          .mapToObj(arista::getVlan)
          .filter(Objects::nonNull)
          .forEach(one -> found.put(String.valueOf(one.getId()), one.getName()));
    } else if (read instanceof CiscoNxosConfiguration nxos) {
      nxos.getVlans().keySet().stream().filter(one -> one != 1).forEach(one -> found.put(String.valueOf(one), null));
    }
    return found;
  }

  private static Map<String, Object> bgp(Configuration made, BgpProcess bgp, JsonNode probes) {
    Map<String, Object> neighbors = new TreeMap<>();
    bgp.getActiveNeighbors()
        .forEach((peer, one) -> neighbors.put(peer.toString(), neighbor(made, one, probes)));
    bgp.getInterfaceNeighbors().forEach((port, one) -> neighbors.put(port, neighbor(made, one, probes)));
    Map<String, Object> found = new TreeMap<>();
    found.put("router_id", bgp.getRouterId().toString());
    found.put("multipath", bgp.getMultipathEbgp());
    found.put("neighbors", neighbors);
    found.put("networks", bgp.getOriginationSpace().getPrefixRanges().stream().map(String::valueOf).sorted().toList());
    return found;
  }

  private static Map<String, Object> neighbor(Configuration made, BgpPeerConfig one, JsonNode probes) {
    Map<String, Object> found = new TreeMap<>();
    found.put("own", one.getLocalAs());
    found.put("asn", one.getRemoteAsns().toString());
    found.put("ipv4", one.getIpv4UnicastAddressFamily() != null);
    List<String> accepted = new ArrayList<>();
    if (one.getIpv4UnicastAddressFamily() != null) {
      String name = one.getIpv4UnicastAddressFamily().getImportPolicy();
      BgpSessionProperties session =
          BgpSessionProperties.builder()
              .setLocalAs(one.getLocalAs())
              .setRemoteAs(one.getRemoteAsns().isEmpty() ? 0 : one.getRemoteAsns().least())
              .setLocalIp(Ip.parse("192.0.2.1"))
              .setRemoteIp(Ip.parse("192.0.2.2"))
              .setSessionType(SessionType.EBGP_SINGLEHOP)
              .build();
      for (JsonNode probe : probes) {
        Bgpv4Route route = Bgpv4Route.testBuilder().setNetwork(Prefix.parse(probe.asText())).build();
        RoutingPolicy policy = made.getRoutingPolicies().get(name);
        if (name == null || policy.process(route, route.toBuilder(), session, Direction.IN, null, null)) {
          accepted.add(probe.asText());
        }
      }
    }
    found.put("accepted", accepted);
    return found;
  }
}
