import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.xcontent.LoggingDeprecationHandler;
import org.opensearch.common.xcontent.XContentFactory;
import org.opensearch.common.xcontent.XContentType;
import org.opensearch.commons.alerting.model.BucketLevelTrigger;
import org.opensearch.commons.alerting.model.Monitor;
import org.opensearch.commons.alerting.model.SearchInput;
import org.opensearch.commons.notifications.action.CreateNotificationConfigRequest;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.search.SearchModule;

/**
 * Reads documents as the alerting and notifications plugins do, with their own library, and prints what they understood:
 * one line of JSON per file. {@code Documents.java monitor|channel FILE...}
 */
class Documents {
    public static void main(String[] arguments) throws Exception {
        List<NamedXContentRegistry.Entry> known = new ArrayList<>(new SearchModule(Settings.EMPTY, List.of()).getNamedXContents());
        known.add(Monitor.Companion.getXCONTENT_REGISTRY());
        known.add(SearchInput.Companion.getXCONTENT_REGISTRY());
        known.add(BucketLevelTrigger.Companion.getXCONTENT_REGISTRY());
        NamedXContentRegistry registry = new NamedXContentRegistry(known);
        for (String file : List.of(arguments).subList(1, arguments.length)) {
            byte[] text = Files.readAllBytes(Path.of(file));
            XContentParser parser = XContentType.JSON.xContent().createParser(registry, LoggingDeprecationHandler.INSTANCE, text);
            parser.nextToken();
            ToXContent understood = arguments[0].equals("monitor")
                ? Monitor.parse(parser)
                : CreateNotificationConfigRequest.parse(parser, null).getNotificationConfig();
            System.out.println(understood.toXContent(XContentFactory.jsonBuilder(), ToXContent.EMPTY_PARAMS));
        }
    }
}
